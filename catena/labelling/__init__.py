"""Which records without labels are worth a person's time (active learning)."""
