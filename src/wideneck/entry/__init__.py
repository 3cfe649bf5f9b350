"""What the public functions do, from a name that the user gives to an answer."""
