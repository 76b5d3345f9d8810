"""Small random encoders of many kinds, each with a tokenizer of its kind."""

import sentencepiece
import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import CONFIG_MAPPING, BertTokenizer, PreTrainedTokenizerFast, RobertaTokenizer

from fsd.glue.tasks import find_task
from fsd.models.hub import find_model
from fsd.models.loading import name_labels
from fsd.models.model_files import model_class
from fsd.models.tokenizer import load_tokenizer

SIZES = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "max_position_embeddings": 64}
OWN = {
    "bert": {"intermediate_size": 32}, "distilbert": {"hidden_dim": 32},
    "electra": {"intermediate_size": 32, "embedding_size": 8},
    "roberta": {"intermediate_size": 32, "type_vocab_size": 1}, "xlm-roberta": {"intermediate_size": 32, "type_vocab_size": 1},
    "deberta-v2": {  # as DeBERTa-v3 has it
        "intermediate_size": 32, "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 8,
        "norm_rel_ebd": "layer_norm", "share_att_key": True, "position_biased_input": False,
    },
    "modernbert": {
        **dict.fromkeys(("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id")), "intermediate_size": 32,
        "local_attention": 8, "global_attn_every_n_layers": 2,
    },
    "albert": {"intermediate_size": 32, "embedding_size": 8},
    "convbert": {"intermediate_size": 32, "embedding_size": 16, "head_ratio": 1, "conv_kernel_size": 3},
    **dict.fromkeys(("big_bird", "longformer", "nomic_bert"), {"intermediate_size": 32}),
    "funnel": {"block_sizes": [2, 2], "d_model": 16, "n_head": 2},
}


def small_config(kind, vocab_size=50, pad_token_id=0, **values):
    """The config of a small model of this kind."""
    return CONFIG_MAPPING[kind](vocab_size=vocab_size, pad_token_id=pad_token_id, initializer_range=0.5,
                                **(SIZES | OWN[kind] | values if kind != "funnel" else OWN[kind] | values))


def small_tokenizer(kind, folder, corpus, vocab):
    """A tokenizer in the form that this kind has on the hub, in ``folder``.

    Args:
        corpus: a text file, for the kinds that learn their tokens.
        vocab: a folder with a BERT's vocabulary, for the others.
    """
    if kind == "roberta":
        bpe = ByteLevelBPETokenizer()
        bpe.train(str(corpus), vocab_size=320, special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"], show_progress=False)
        bpe.save_model(str(folder))
        RobertaTokenizer(vocab=str(folder / "vocab.json"), merges=str(folder / "merges.txt")).save_pretrained(folder)
    elif kind == "xlm-roberta":
        sentencepiece_model(folder / "sentencepiece.bpe.model", corpus)
    else:
        tokenizer = BertTokenizer.from_pretrained(vocab)
        if kind == "modernbert":
            tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, **tokenizer.special_tokens_map)
        tokenizer.save_pretrained(folder)


def sentencepiece_model(path, corpus):
    """Train a small sentencepiece model on a text file, with the pieces that XLM-RoBERTa's has."""
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus), model_prefix=str(path.with_suffix("")), vocab_size=120, character_coverage=1.0, minloglevel=2,
        hard_vocab_limit=False, num_threads=1,
    )
    path.with_suffix(".vocab").unlink()


def save_encoder(folder, kind, corpus, vocab, task_name="RTE", **values):
    """A small random text classifier of this kind with the task's labels, and its tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    small_tokenizer(kind, folder, corpus, vocab)
    (folder / "config.json").write_text(f'{{"model_type": "{kind}"}}')
    tokenizer = load_tokenizer(find_model(folder, ""), False)
    task = find_task(task_name)
    config = small_config(kind, len(tokenizer), tokenizer.pad_token_id, num_labels=task.num_logits, **values)
    name_labels(config, task)
    torch.manual_seed(0)
    model_class(config)(config).save_pretrained(folder)
    return folder
