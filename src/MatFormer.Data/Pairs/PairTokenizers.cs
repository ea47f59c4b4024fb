using System.Text;

namespace MatFormer;

/// <summary>Tokenizers learnt from pairs of texts.</summary>
public static class PairTokenizers
{
    extension(Tokenizer)
    {
        /// <summary>
        /// Learns a vocabulary from the queries and documents that a corpus trains on: all bytes, then, one after the other, the most frequent pair of neighbours
        /// within words (cut as GPT-2 does); of equally frequent pairs the one with the smaller first token, then the smaller second. Then
        /// the special tokens.
        /// </summary>
        /// <param name="corpus">The text; its own tokenizer does not matter.</param>
        /// <param name="options">How large, and which special tokens.</param>
        /// <param name="cancellationToken">Stops it.</param>
        /// <exception cref="ArgumentException">An option is out of range.</exception>
        public static Tokenizer Train(PairCorpus corpus, TokenizerOptions? options = null, CancellationToken cancellationToken = default)
        {
            ArgumentNullException.ThrowIfNull(corpus);
            var pairs = corpus.Training;
            var words = WordCounts.Of(
                pairs.Count,
                (pair, counts) =>
                {
                    counts.Add(Encoding.UTF8.GetBytes(pairs[pair].Query));
                    counts.Add(Encoding.UTF8.GetBytes(pairs[pair].Document));
                },
                cancellationToken);
            return Tokenizer.Train(words, options, cancellationToken);
        }
    }
}
