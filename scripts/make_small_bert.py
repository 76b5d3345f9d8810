"""Write a small BERT with random weights and a tokenizer, for use when there is no pretrained model.

    python scripts/make_small_bert.py --vocab toy/vocab.txt --output_dir bert --num_hidden_layers 4 --hidden_size 128

Give the folder to scripts/finetune_teacher.py as --model_name_or_path.
"""

import fsd.cli.early_signals  # noqa: F401

from pathlib import Path
from tempfile import TemporaryDirectory

from fsd.cli.arguments import add_seed_argument
from fsd.cli.parser import Parser, number
from fsd.system.errors import InputError, exit_on_input_error
from fsd.system.files import check_folder, read_json, written_whole

ANY_VERSION = {"transformers_version": None}


def main():
    parser = Parser(__doc__)
    parser.add_argument("--vocab", required=True, help="a lower-case WordPiece vocabulary, one entry per line")
    parser.add_argument("--output_dir", required=True, help="folder to write; it must be missing or empty, or hold this model")
    sizes = {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 512,
             "max_position_embeddings": 128}
    for name, default in sizes.items():
        parser.add_argument(f"--{name}", type=number(int, 1), default=default, help="as in BERT's config")
    add_seed_argument(parser)
    args = parser.parse_args()
    check_folder(args.output_dir, f"--output_dir {args.output_dir}")
    if args.hidden_size % args.num_attention_heads:
        raise InputError(f"--hidden_size {args.hidden_size} is not divisible by --num_attention_heads {args.num_attention_heads}")

    from fsd.models.model_files import make_config
    from fsd.models.student import new_model, parameter_count

    tokenizer = read_tokenizer(args.vocab)
    shape = {name: getattr(args, name) for name in sizes}
    config = make_config({"vocab_size": len(tokenizer), **shape}, "--hidden_size and the other sizes")
    encoder = new_model(config, args.seed).bert
    done = "wrote" if write_model(Path(args.output_dir), encoder, tokenizer) else "already there:"
    print(f"{done} {args.output_dir}: {args.num_hidden_layers} layers of width {args.hidden_size}, "
          f"{len(tokenizer)} entries, {parameter_count(encoder):,} parameters")


def write_model(folder, encoder, tokenizer):
    """Write the model and its tokenizer into a folder that is missing or empty; returns whether it wrote.

    Raises:
        InputError: the folder holds other files than this would write.
    """
    from fsd.records.checkpoints import save_model

    if folder.is_dir() and any(folder.iterdir()):
        with TemporaryDirectory() as fresh:
            save_model(fresh, encoder, tokenizer)
            if all(is_same(path, folder / path.name) for path in Path(fresh).iterdir()):
                return False
        raise InputError(f"--output_dir {folder} is not empty, and holds another model or none; name another folder")
    with written_whole(folder, folder=True) as temporary:
        save_model(temporary, encoder, tokenizer)
    return True


def is_same(path, other):
    """Whether ``other`` is a file with the content of ``path``; another version of transformers may have written it."""
    if not other.is_file() or path.name != "config.json":
        return other.is_file() and path.read_bytes() == other.read_bytes()
    found = read_json(other)
    return isinstance(found, dict) and read_json(path) | ANY_VERSION == found | ANY_VERSION


def read_tokenizer(path):
    """The lower-casing BERT tokenizer of a vocabulary file."""
    from transformers import BertTokenizer

    if not Path(path).is_file():  # reading a FIFO would block
        raise InputError(f"--vocab {path}: no such file; name a vocabulary, such as the vocab.txt of scripts/make_toy_glue.py")
    try:
        entries = Path(path).read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--vocab {path}: cannot read it ({error}); save it as UTF-8") from error
    lines = {}
    for line, entry in enumerate(entries, 1):
        if lines.setdefault(entry, line) != line:
            raise InputError(f"--vocab {path}:{line}: {entry[:80]!r} is already on line {lines[entry]}; remove one of them")
    for special in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"):
        if special not in entries:
            raise InputError(f"--vocab {path}: it lacks {special}; write one entry per line, as in BERT's vocab.txt")
    return BertTokenizer({entry: index for index, entry in enumerate(entries)}, do_lower_case=True)


if __name__ == "__main__":
    exit_on_input_error(main)
