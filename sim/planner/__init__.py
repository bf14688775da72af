"""`rialto sim plan`: the closed forms, and a small simulation of the production policy and read-out."""
