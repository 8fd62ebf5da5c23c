"""How text comes out of a network: from next-token probabilities to whole texts."""
