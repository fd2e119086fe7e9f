"""Language models: n-grams, and what reads and writes them as ARPA text.

The recurrent ones are in `asr.lm.rnn`; they alone need torch.
"""

from asr.lm.kneser_ney import train_ngram
from asr.lm.ngram import NgramModel
from asr.lm.perplexity import Perplexity

__all__ = ["NgramModel", "Perplexity", "train_ngram"]
