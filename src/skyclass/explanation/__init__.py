"""Maps of the evidence for a class, and how reliable they are."""
