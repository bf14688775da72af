"""`rialto sim fit`: a world estimated from a shop's own log, with its uncertainty and a check of the fit."""
