namespace MatFormer;

/// <summary>Adds the training of tokenizers on text.</summary>
public static class TextTokenizers
{
    extension(Tokenizer)
    {
        /// <summary>
        /// Learns a vocabulary from the training part of a corpus. The vocabulary begins with all bytes. Then the most frequent pair of
        /// neighbours within words (cut as GPT-2 does) becomes a token, over and over. Of equally frequent pairs, the one with the smaller
        /// first token is taken, then the one with the smaller second token. The special tokens come last.
        /// </summary>
        /// <param name="corpus">The text. The corpus's tokenizer is not used.</param>
        /// <param name="options">The size and the special tokens.</param>
        /// <param name="cancellationToken">Cancels the training.</param>
        /// <exception cref="ArgumentException">An option is out of range.</exception>
        public static Tokenizer Train(TextCorpus corpus, TokenizerOptions? options = null, CancellationToken cancellationToken = default)
        {
            ArgumentNullException.ThrowIfNull(corpus);
            var split = corpus.Training;
            var words = WordCounts.Of(
                split.Documents, (document, counts) => counts.Add(split.ReadDocument(document)), cancellationToken);
            return Tokenizer.Train(words, options, cancellationToken);
        }
    }
}
