"""What `meshctl check` looks at: one idea a module, each a function from the surroundings to findings."""
