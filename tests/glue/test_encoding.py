"""Encoding against the tokenizer called directly, the cache's freshness and safety, and the cutting of batches."""

import json
import logging

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import BertTokenizerFast, PreTrainedTokenizerFast

import fsd.glue.encoding
from fsd.glue.dataset import train_subset
from fsd.glue.encoding import encode_split, tokenizer_hash
from fsd.glue.files import read_split
from fsd.glue.tasks import find_task
from fsd.system.errors import InputError

WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] a cat dog bird fish sees hears runs here there now then . ?".split()
RTE = find_task("RTE")
KEYS = ("input_ids", "attention_mask", "token_type_ids")


def make_tokenizer(folder, words=WORDS, **options):
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    return BertTokenizerFast.from_pretrained(folder, **options)


@pytest.fixture
def tokenizer(tmp_path):
    return make_tokenizer(tmp_path / "tokenizer")


def write_rte(root, split, rows=12, last="entailment"):
    folder = root / "glue" / "RTE"
    folder.mkdir(parents=True, exist_ok=True)
    labels = ["entailment", "not_entailment"] * rows
    labels[rows - 1] = last
    lines = ["index\tsentence1\tsentence2" + ("" if split == "test" else "\tlabel")]
    for at in range(rows):
        first, second = " ".join(WORDS[5:6 + at]), " ".join(WORDS[6:7 + at // 2])
        lines.append(f"{100 + at}\t{first}\t{second}" + ("" if split == "test" else f"\t{labels[at]}"))
    (folder / f"{split}.tsv").write_text("\n".join(lines) + "\n")
    return root / "glue"


def test_encodes_as_the_tokenizer_itself(tmp_path, tokenizer, monkeypatch):
    monkeypatch.setattr(fsd.glue.encoding, "CHUNK", 5)  # so that twelve examples make three chunks
    root = write_rte(tmp_path, "train")
    dataset = encode_split(RTE, root, "train", tokenizer, 16)
    texts = read_split(RTE, root, "train")
    expected = tokenizer(texts.texts_a, texts.texts_b, truncation="longest_first", padding="max_length", max_length=16,
                         return_tensors="pt")
    batch = dataset.batch(torch.arange(12))
    assert expected["attention_mask"].sum(1).max() == 16, "the longest pair should be cut"
    for key in KEYS:
        assert batch[key].dtype == torch.int64
        assert torch.equal(batch[key], expected[key]), key
    assert batch["labels"].tolist() == texts.labels
    assert (dataset.input_ids.dtype, dataset.token_type_ids.dtype) == (torch.int32, torch.uint8)
    assert len(dataset) == 12 and dataset.split == "train" and dataset.index is None


def test_single_sentences_and_test_files(tmp_path, tokenizer):
    folder = tmp_path / "CoLA"
    folder.mkdir()
    (folder / "test.tsv").write_text("index\tsentence\n4\ta cat runs\n9\tunknown\n")
    dataset = encode_split(find_task("CoLA"), folder, "test", tokenizer, 8)
    assert dataset.index == ["4", "9"] and dataset.labels is None
    batch = dataset.batch(torch.tensor([1, 0]), cut_to_longest=True)
    assert set(batch) == set(KEYS)
    assert batch["input_ids"].tolist() == [[2, 1, 3, 0, 0], [2, 5, 6, 12, 3]]
    assert batch["token_type_ids"].sum() == 0
    again = encode_split(find_task("CoLA"), folder, "test", tokenizer, 8)
    assert again.index == dataset.index and again.labels is None


def test_scores_are_float32(tmp_path, tokenizer):
    (tmp_path / "STS-B").mkdir()
    (tmp_path / "STS-B/dev.tsv").write_text("sentence1\tsentence2\tscore\na\tcat\t3.25\n")
    for _ in range(2):  # encoded, then from the cache
        labels = encode_split(find_task("STS-B"), tmp_path, "dev", tokenizer, 8).labels
        assert labels.dtype == torch.float32 and labels.tolist() == [3.25]


def test_the_callers_tokenizer_is_left_as_it_was(tmp_path, tokenizer):
    before = tokenizer.backend_tokenizer.to_str()
    encode_split(RTE, write_rte(tmp_path, "train"), "train", tokenizer, 8)
    assert tokenizer.backend_tokenizer.to_str() == before


def test_batches_cut_to_their_longest_example(tmp_path, tokenizer):
    dataset = encode_split(RTE, write_rte(tmp_path, "train"), "train", tokenizer, 32)
    indices = torch.tensor([3, 0, 5])
    full, cut = dataset.batch(indices), dataset.batch(indices, cut_to_longest=True)
    longest = int(dataset.lengths[indices].max())
    assert longest < 32 == full["input_ids"].shape[1]
    for key in KEYS:
        assert torch.equal(cut[key], full[key][:, :longest])
    assert full["attention_mask"].sum(1).tolist() == dataset.lengths[indices].tolist()
    assert full["input_ids"][full["attention_mask"] == 0].unique().tolist() == [tokenizer.pad_token_id]
    assert torch.equal(cut["labels"], full["labels"])


def test_the_device_copy_keeps_lengths_on_the_cpu(tmp_path, tokenizer):
    dataset = encode_split(RTE, write_rte(tmp_path, "train"), "train", tokenizer, 16).to("meta")
    assert dataset.device.type == "meta" and dataset.lengths.device.type == "cpu"
    batch = dataset.batch(torch.tensor([0, 1]), cut_to_longest=True)  # the meta device has nothing to read back
    assert batch["input_ids"].device.type == "meta"
    assert batch["input_ids"].shape == (2, int(dataset.lengths[:2].max()))


def test_subsets_are_seeded_and_in_order(tmp_path, tokenizer):
    dataset = encode_split(RTE, write_rte(tmp_path, "train"), "train", tokenizer, 32)
    subset = train_subset(dataset, 5, seed=1)
    assert len(subset) == 5
    at = [int((dataset.input_ids == row).all(1).nonzero()) for row in subset.input_ids]
    assert at == sorted(at)
    assert subset.labels.tolist() == dataset.labels[at].tolist()
    assert subset.lengths.tolist() == dataset.lengths[at].tolist()
    assert torch.equal(train_subset(dataset, 5, seed=1).input_ids, subset.input_ids)
    assert train_subset(dataset, 5, seed=1).fingerprint == subset.fingerprint
    assert subset.fingerprint not in (dataset.fingerprint, train_subset(dataset, 5, seed=2).fingerprint)
    assert train_subset(dataset, 12, seed=1) is dataset
    test = encode_split(RTE, write_rte(tmp_path, "test"), "test", tokenizer, 32)
    assert test.subset(torch.tensor([2, 0])).index == ["102", "100"]


def caches(root):
    return sorted((root / "RTE/cached_encodings").iterdir())


def refuse_to_encode(*_):
    raise AssertionError("this should have come from the cache")


def test_the_second_time_comes_from_the_cache(tmp_path, tokenizer, monkeypatch):
    root = write_rte(tmp_path, "train")
    first = encode_split(RTE, root, "train", tokenizer, 16)
    assert len(caches(root)) == 1
    monkeypatch.setattr(fsd.glue.encoding, "_encode", refuse_to_encode)
    second = encode_split(RTE, root, "train", tokenizer, 16)
    for name in ("input_ids", "token_type_ids", "lengths", "labels"):
        one, two = getattr(first, name), getattr(second, name)
        assert one.dtype == two.dtype and torch.equal(one, two), name
    assert first.fingerprint == second.fingerprint
    with pytest.raises(AssertionError, match="from the cache"):
        encode_split(RTE, root, "train", tokenizer, 16, overwrite_cache=True)


def test_overwriting_replaces_the_cache(tmp_path, tokenizer):
    root = write_rte(tmp_path, "train")
    encode_split(RTE, root, "train", tokenizer, 16)
    (cache,) = caches(root)
    cache.write_bytes(b"old")
    dataset = encode_split(RTE, root, "train", tokenizer, 16, overwrite_cache=True)
    assert caches(root) == [cache] and cache.stat().st_size > dataset.input_ids.nbytes


def test_anything_the_encoding_hangs_on_makes_another_cache(tmp_path, tokenizer, monkeypatch):
    root = write_rte(tmp_path, "train")
    fingerprints = [encode_split(RTE, root, "train", tokenizer, 16).fingerprint]
    fingerprints.append(encode_split(RTE, root, "train", tokenizer, 17).fingerprint)  # another length
    other = make_tokenizer(tmp_path / "other", WORDS[:-2] + WORDS[:-3:-1])  # another vocabulary of the same size
    fingerprints.append(encode_split(RTE, root, "train", other, 16).fingerprint)
    cased = make_tokenizer(tmp_path / "cased", do_lower_case=False)  # another normalisation
    fingerprints.append(encode_split(RTE, root, "train", cased, 16).fingerprint)
    (root / "RTE/dev.tsv").write_bytes((root / "RTE/train.tsv").read_bytes())  # another split of the same content
    fingerprints.append(encode_split(RTE, root, "dev", tokenizer, 16).fingerprint)
    write_rte(tmp_path, "train", last="not_entailment")  # one label of the file
    fingerprints.append(encode_split(RTE, root, "train", tokenizer, 16).fingerprint)
    monkeypatch.setattr(fsd.glue.encoding, "CACHE_FORMAT", -1)
    fingerprints.append(encode_split(RTE, root, "train", tokenizer, 16).fingerprint)
    assert len(set(fingerprints)) == len(fingerprints) == len(caches(root))


def test_a_changed_label_is_read(tmp_path, tokenizer):
    root = write_rte(tmp_path, "train", last="entailment")
    assert encode_split(RTE, root, "train", tokenizer, 16).labels[-1] == 0
    write_rte(tmp_path, "train", last="not_entailment")
    assert encode_split(RTE, root, "train", tokenizer, 16).labels[-1] == 1


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)


def another_dtype(path):
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    save_file({name: tensor.bfloat16() for name, tensor in load_file(path).items()}, path, metadata)


@pytest.mark.parametrize("damage", [
    lambda path: path.write_bytes(b""),
    lambda path: path.write_bytes(b"not safetensors at all"),
    lambda path: path.write_bytes(path.read_bytes()[:-10]),
    lambda path: save_file({"input_ids": torch.zeros(2, 2)}, path),
    flip_a_byte, another_dtype,
], ids=["empty", "garbage", "truncated", "foreign", "flipped", "another dtype"])
def test_a_damaged_cache_is_made_again_with_one_warning(tmp_path, tokenizer, caplog, damage):
    root = write_rte(tmp_path, "train")
    expected = encode_split(RTE, root, "train", tokenizer, 16)
    expected_ids = expected.input_ids.clone()
    damage(caches(root)[0])
    with caplog.at_level(logging.WARNING):
        again = encode_split(RTE, root, "train", tokenizer, 16)
    assert len(caplog.messages) == 1 and "damaged" in caplog.messages[0]
    assert torch.equal(again.input_ids, expected_ids)
    caplog.clear()
    encode_split(RTE, root, "train", tokenizer, 16)
    assert not caplog.messages


def test_a_folder_that_cannot_be_written_costs_the_cache_only(tmp_path, tokenizer, caplog):
    root = write_rte(tmp_path, "train")
    (root / "RTE/cached_encodings").write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING):
        dataset = encode_split(RTE, root, "train", tokenizer, 16)
    assert len(dataset) == 12
    assert len(caplog.messages) == 1 and "without a cache" in caplog.messages[0]


def test_the_tokenizers_hash_is_its_content_not_its_last_call(tmp_path, tokenizer):
    before = tokenizer_hash(tokenizer)
    tokenizer("a cat", truncation=True, max_length=4, padding="max_length")
    assert tokenizer_hash(tokenizer) == before == tokenizer_hash(make_tokenizer(tmp_path / "same"))
    assert tokenizer_hash(make_tokenizer(tmp_path / "more", WORDS + ["mouse"])) != before
    assert tokenizer_hash(make_tokenizer(tmp_path / "cased", do_lower_case=False)) != before
    tokenizer.save_pretrained(tmp_path / "saved")
    assert tokenizer_hash(BertTokenizerFast.from_pretrained(tmp_path / "saved")) == before


def test_bad_input(tmp_path, tokenizer):
    root = write_rte(tmp_path, "train")
    with pytest.raises(InputError, match="--max_seq_length 4 .* 3 special tokens"):
        encode_split(RTE, root, "train", tokenizer, 4)
    with pytest.raises(InputError, match="dev.tsv"):
        encode_split(RTE, root, "dev", tokenizer, 16)
    (root / "RTE/train.tsv").write_text("index\tsentence1\tsentence2\tlabel\n0\ta\tcat\tperhaps\n")
    with pytest.raises(InputError, match="train.tsv:2: unknown label"):
        encode_split(RTE, root, "train", tokenizer, 16)
    assert not (root / "RTE/cached_encodings").exists()


def test_a_tokenizer_that_puts_nothing_around_a_text_is_refused(tmp_path, tokenizer):
    content = json.loads(tokenizer.backend_tokenizer.to_str()) | {"post_processor": None}
    bare = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(content)), pad_token="[PAD]")
    with pytest.raises(InputError, match="no .CLS. and .SEP. around a text; name an encoder's tokenizer"):
        encode_split(RTE, write_rte(tmp_path, "train"), "train", bare, 16)
