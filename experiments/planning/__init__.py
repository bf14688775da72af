"""What a test will take, find and cost, before it begins: closed forms, no simulation."""
