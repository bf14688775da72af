"""What `rialto export` wrote, opened for whoever reads an experiment from it."""
