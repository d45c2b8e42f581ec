"""What `meshctl check` checks: a module for each subject, a function from a Setup to findings for each check."""
