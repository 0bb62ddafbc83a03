"""Tower warm-up: dense supervision, before a language model has to make sense of what the tower sees."""
