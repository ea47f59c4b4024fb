namespace MatFormer;

/// <summary>Tokenizers learnt from a text.</summary>
public static class TextTokenizers
{
    extension(Tokenizer)
    {
        /// <summary>
        /// Learns a vocabulary from the training part of a corpus: all bytes, then, one after the other, the most frequent pair of neighbours
        /// within words (cut as GPT-2 does); of equally frequent pairs the one with the smaller first token, then the smaller second. Then
        /// the special tokens.
        /// </summary>
        /// <param name="corpus">The text; its own tokenizer does not matter.</param>
        /// <param name="options">How large, and which special tokens.</param>
        /// <param name="cancellationToken">Stops it.</param>
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
