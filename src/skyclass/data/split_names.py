"""Names of the splits as users write them: `train`, `Training_Data`, `test images`, `validation-set`, `dev`, ..."""

from __future__ import annotations

import re
from collections.abc import Mapping

# The words for the splits, in small letters.
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
# Words beside such a name without a meaning: train_images, the test set, training_rev1, train_224x224.
_BESIDE = re.compile(
    r"the|data|datas?et|sets?|splits?|samples?|examples?|images?|imgs?|pics?|pictures?|photos?|stamps?|cutouts?|files?"
    r"|folder|dir|jpe?gs?|pngs?|fits|npys?|tiffs?|v(er)?[0-9]+|rev[0-9]+|[0-9]+(x[0-9]+)?"
)
_JOINED = re.compile(rf"({'|'.join(sorted(SPLIT_NAMES, key=len, reverse=True))})(data|datasets?|sets?|images?|imgs?)")


def split_of(name: str, given: Mapping[str, str] | None = None) -> str | None:
    """The split (train, val or test) that a folder or a value of a table is called after; None where it is none.

    Letter case, separators (`-`, `_`, `.`, blanks) and words such as `data`, `set` or `images` make no difference.

    given : name -> split, as the user gives them, which count first
    """
    if given and name in given:
        return given[name]
    words = [word for word in re.split(r"[\W_]+", name.lower()) if word and not _BESIDE.fullmatch(word)]
    if len(words) != 1:
        return None
    joined = _JOINED.fullmatch(words[0])
    return SPLIT_NAMES.get(joined[1] if joined else words[0])
