from ..extras import needed_for

with needed_for("Training"):
    import accelerate as accelerate
    import datasets as datasets
