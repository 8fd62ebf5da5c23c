"""How good a model is, where it is not, and how sure one can be: all from one file of predictions."""
