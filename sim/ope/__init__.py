"""`rialto sim ope`: logs of decisions read, candidate policies and models fitted, estimates shown."""
