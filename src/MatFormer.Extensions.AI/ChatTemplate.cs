using System.Collections.Immutable;
using System.Text;
using Microsoft.Extensions.AI;

namespace MatFormer;

/// <summary>Makes the text that a model continues of the messages of a chat.</summary>
/// <param name="Prompt">
/// The text of messages, which hold nothing but text and are at least one; what the model generates after it is the answer.
/// </param>
public sealed record ChatTemplate(Func<IReadOnlyList<ChatMessage>, string> Prompt)
{
    private const string Start = "<|im_start|>";
    private const string End = "<|im_end|>";

    /// <summary>Texts before which an answer ends.</summary>
    public ImmutableArray<string> StopStrings { get; init; } = [];

    /// <summary>
    /// For plain language models, which know no roles: the texts of the messages are one document that goes on. An answer follows what it
    /// answers directly; every other message begins a line.
    /// </summary>
    public static ChatTemplate Continuation { get; } = new(messages =>
    {
        var text = new StringBuilder(messages[0].Text);
        foreach (var message in messages.Skip(1))
        {
            if (message.Role != ChatRole.Assistant) text.Append('\n');
            text.Append(message.Text);
        }

        return text.ToString();
    });

    /// <summary>
    /// ChatML, for models that were trained on it: <c>&lt;|im_start|&gt;role</c>, a line end, the text and <c>&lt;|im_end|&gt;</c> for each
    /// message, then the beginning of the assistant's, which ends before <c>&lt;|im_end|&gt;</c>. Messages that contain such a mark
    /// themselves are refused: they could pretend to be of another role.
    /// </summary>
    public static ChatTemplate ChatML { get; } = new(messages =>
    {
        var text = new StringBuilder();
        foreach (var message in messages)
        {
            foreach (var mark in (string[])[Start, End])
            {
                if (!message.Text.Contains(mark, StringComparison.Ordinal)) continue;
                throw new ArgumentException(
                    $"A message of the role {message.Role} contains {mark}, which separates messages in ChatML; remove it.",
                    nameof(messages));
            }

            text.Append(Start).Append(message.Role.Value).Append('\n').Append(message.Text).Append(End).Append('\n');
        }

        return text.Append(Start).Append("assistant\n").ToString();
    })
    {
        StopStrings = [End],
    };
}
