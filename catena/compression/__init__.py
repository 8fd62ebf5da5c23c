"""Smaller and faster models: parts cut out, weights in eight bits, other runtimes' formats."""
