"""The calibration studies: what the analysis promises, tried in worlds where the truth is known."""
