def test_x(run_offline):
    print(
        run_offline("""
import datasets
d = datasets.load_dataset("nyu-mll/glue", "sst2")
print(d, d["train"].features, set(d["test"]["label"]))
from transformers import AutoTokenizer, AutoModel
t=AutoTokenizer.from_pretrained("google-bert/bert-base-uncased"); print(type(t), t("a film Boring xxx"), t.model_max_length)
print(AutoModel.from_pretrained("google-bert/bert-base-uncased").config)
""")
    )
