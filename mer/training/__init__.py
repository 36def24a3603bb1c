"""The training loop, losses, embeddings of frozen networks, and data-parallel training."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "embeddings": ["KeptEmbeddings"],
        "loop": ["Callback", "State", "Step", "fit"],
        "losses": ["loss_function"],
    },
)
