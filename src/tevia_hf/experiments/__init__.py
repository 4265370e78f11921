from ..extras import needed_for

with needed_for("Training"):
    import datasets as datasets
    import pandas as pandas
