"""What went wrong with the authority: what, where, and what to do about it."""

from __future__ import annotations


class AuthorityError(Exception):
    """A command of the authority cannot be carried out; its text is for the person who gave it."""

    def __init__(self, what: str, do: str, where: object = None) -> None:
        """
        Make one sentence about the trouble and one about the way out.

        :param what: the trouble, in words that start a sentence
        :param do: the way out, a sentence of its own without its full stop
        :param where: the file or directory, or what was typed
        """
        place = "" if where is None else f"{where}: "
        super().__init__(f"{place}{what}. {do}.")
        self.what = what
        self.do = do
        self.where = where
