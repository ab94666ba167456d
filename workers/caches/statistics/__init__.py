"""How many there are of what: counted in the background, told with the time of the count."""
