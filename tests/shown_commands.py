"""Commands that a page or a file of conf/ shows: what a reader types, with stand-ins for DIR, FILE and the like."""

import re
from pathlib import Path
from typing import Final

from hydra import compose, initialize_config_dir

from sweeplab.config.compose import CONF, to_study_config
from sweeplab.config.study import StudyConfig, register

RECORDS: Final = '[{"instruction": "%s", "output": "b"}, {"instruction": "%s again", "output": "b"}]'
STAND_INS: Final = {
    r"\bORG/NAME\b": "org/name",
    r"^export\.path=DIR\b": "export.path={folder}/new",
    r"=DIR\b": "={folder}",
    r"=FILE\b": "={folder}/a.json",
    r"path: (?=a\.json|b\.jsonl)": "path: {folder}/",
    r"\bHEAD\b": "127.0.0.1",
    r"\$\(hostname\)": "localhost",
    # as the command line itself adds keys that a user chooses
    r"^(?=space\.|quantization\.pattern=|executor\.sbatch=|study\.constraints=|model\.modules=)": "++",
}


def check_command(overrides: list[str], folder: Path) -> StudyConfig:
    """The study of a command's words after `python -m sweeplab`. Raises where the command would be refused."""
    register()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_text("")
    for name in ("a.json", "b.jsonl"):
        (folder / name).write_text(RECORDS % (name, name))
    for mark, value in STAND_INS.items():
        overrides = [re.sub(mark, value.format(folder=folder), one) for one in overrides]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return to_study_config(compose("config", overrides=overrides), "single")
