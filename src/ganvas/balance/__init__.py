"""Make sets of pictures with as many of each value as asked for."""
