"""Fine-tune pretrained CNNs to tell which emotion a clip of music induces."""

__version__ = "0.1.0"
