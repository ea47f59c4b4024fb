using System.Text;

namespace MatFormer;

/// <summary>Adds the training of tokenizers on pairs of texts.</summary>
public static class PairTokenizers
{
    extension(Tokenizer)
    {
        /// <summary>
        /// Learns a vocabulary from the queries and documents of the training part of a corpus. The vocabulary begins with all bytes. Then
        /// the most frequent pair of neighbours within words (cut as GPT-2 does) becomes a token, over and over. Of equally frequent pairs,
        /// the one with the smaller first token is taken, then the one with the smaller second token. The special tokens come last.
        /// </summary>
        /// <param name="corpus">The pairs. The corpus's tokenizer is not used.</param>
        /// <param name="options">The size and the special tokens.</param>
        /// <param name="cancellationToken">Cancels the training.</param>
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
