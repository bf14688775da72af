"""Studies too long for the tests: `make studies` runs them and writes docs/calibration.md."""
