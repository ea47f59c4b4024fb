using System.Collections.Immutable;
using System.Text;
using Microsoft.Extensions.AI;

namespace MatFormer;

/// <summary>Turns the messages of a chat into the text that a model continues.</summary>
/// <param name="Prompt">
/// The function that returns the text of the messages. It gets at least one message, and all messages contain only text. What the model
/// generates after the text is the answer.
/// </param>
public sealed record ChatTemplate(Func<IReadOnlyList<ChatMessage>, string> Prompt)
{
    private const string Start = "<|im_start|>";
    private const string End = "<|im_end|>";

    /// <summary>The texts before which an answer ends; they are not part of the answer.</summary>
    public ImmutableArray<string> StopStrings { get; init; } = [];

    /// <summary>
    /// The template for plain language models, which know no roles: the texts of the messages form one document. An answer directly
    /// follows the message that it answers; every other message begins a new line.
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
    /// The ChatML template, for models that were trained on ChatML. Each message becomes <c>&lt;|im_start|&gt;role</c>, a line end, the
    /// text and <c>&lt;|im_end|&gt;</c>. The beginning of the assistant's message follows, and the answer ends before
    /// <c>&lt;|im_end|&gt;</c>. A message that contains one of these marks is refused, because it could pretend to have another role.
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

    /// <summary>
    /// Loads the chat template of a model of Hugging Face's transformers. Of Jinja, the language of templates, the part is supported that
    /// the templates of Llama 3, Qwen, Mistral, Gemma and similar models use. The template gets the messages and the tokens that
    /// <c>tokenizer_config.json</c> names, but no tools. A message that contains a special token is refused, because it could pretend to
    /// have another role.
    /// </summary>
    /// <param name="path">
    /// A <c>tokenizer_config.json</c>, a <c>chat_template.jinja</c>, or a folder with one of them. The template of a file of its own gets
    /// the tokens of the <c>tokenizer_config.json</c> beside it.
    /// </param>
    /// <returns>
    /// The template. Its <see cref="StopStrings"/> are <c>eos_token</c> and the end of a turn: the special token, or the mark in angle
    /// brackets, that the template writes after an assistant's message. Its <see cref="Prompt"/> throws an <see cref="ArgumentException"/>
    /// if the template refuses the messages, for example because roles must alternate; the exception has the template's own message.
    /// </returns>
    /// <exception cref="TokenizerException">
    /// A file does not exist or is damaged, there is no template, or the template uses what is not supported. The message names the file
    /// and the line of the template.
    /// </exception>
    /// <exception cref="IOException">A file cannot be read.</exception>
    /// <example>
    /// <code>
    /// var template = ChatTemplate.Load("Qwen3-0.6B/tokenizer_config.json");
    /// using var client = new MatFormerChatClient(model, new GenerationOptions { Tokenizer = tokenizer }, template);
    /// </code>
    /// </example>
    public static ChatTemplate Load(string path)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        var file = ChatTemplateFile.Load(path);
        return new ChatTemplate(messages => file.Prompt(messages.Select(message => (message.Role.Value, message.Text))))
        {
            StopStrings = file.StopStrings,
        };
    }
}
