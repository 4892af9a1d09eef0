"""Commands that a page or a file of conf/ shows: what a reader types, with stand-ins for DIR, FILE and the like."""

import re
from pathlib import Path
from typing import Final

from hydra import initialize_config_dir

from sweeplab.cli.shorthand import write_out
from sweeplab.config.compose import compose_conf, to_study_config
from sweeplab.config.conf import CONF
from sweeplab.config.study import StudyConfig

RECORDS: Final = '[{"instruction": "%s", "output": "b"}, {"instruction": "%s again", "output": "b"}]'
_FILES: Final = ["model.path={folder}", "data.path={records}"]
UNCOMMITTED: Final = {  # experiments on files that are not in the repository, and what stands in for these
    "+experiment=smollm2_rates": [*_FILES, "evaluation.data_dir={folder}"],
    "+experiment=smollm2_methods": [*_FILES, "evaluation.data_dir={folder}"],
    "+experiment=smollm2_layers": _FILES,
    "+experiment=stories260k_rates": _FILES,
}
STAND_INS: Final = {
    r"\bORG/NAME\b": "org/name",
    r"^export\.path=DIR\b": "export.path={folder}/new",
    r"^evaluation\.path=FILE\b": "evaluation.path={folder}/items.jsonl",
    r"=DIR\b": "={folder}",
    r"=FILE\b": "={folder}/a.json",
    r"path: (?=a\.json|b\.jsonl)": "path: {folder}/",
    r"\bHEAD\b": "127.0.0.1",
    r"\$\(hostname\)": "localhost",
}


def check_command(overrides: list[str], folder: Path) -> StudyConfig:
    """The study of a command's words after `python -m sweeplab`. Raises where the command would be refused."""
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_text("")
    for name in ("a.json", "b.jsonl"):
        (folder / name).write_text(RECORDS % (name, name))
    (folder / "items.jsonl").write_text('{"question": "a", "answer": "1", "choices": ["1", "2"]}')
    for mark, value in STAND_INS.items():
        overrides = [re.sub(mark, value.format(folder=folder), one) for one in overrides]
    more = [stand_in for one in overrides for stand_in in UNCOMMITTED.get(one, [])]
    overrides = [*write_out(overrides), *(one.format(folder=folder, records=folder / "a.json") for one in more)]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return to_study_config(compose_conf(overrides), "single", overrides)
