"""The contracts that every operator keeps, and what they are handed."""
