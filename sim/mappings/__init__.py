"""Mappings of public files for `rialto replay`."""
