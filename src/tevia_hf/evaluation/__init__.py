from ..extras import needed_for

with needed_for("Evaluation"):
    import datasets as datasets
    import pandas as pandas
