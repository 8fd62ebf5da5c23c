"""Prefect flows: what runs when, with which retries. No machine learning in here."""
