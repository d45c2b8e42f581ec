"""What `meshctl check` examines: a module for each subject, each check a function from Setup to findings."""
