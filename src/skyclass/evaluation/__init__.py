"""How good a classifier is: numbers and figures."""
