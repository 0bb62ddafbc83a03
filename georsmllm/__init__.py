"""GeoRSMLLM in PyTorch: the model, its data, its training and its scores."""
