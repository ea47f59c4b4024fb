using System.Collections.Immutable;

namespace MatFormer;

/// <summary>
/// A template in the subset of Jinja 2 that the chat templates of common model families use, rendered as Hugging Face's transformers does
/// (<c>apply_chat_template</c>). What is not in the subset is refused when the template is parsed.
/// </summary>
internal sealed class JinjaTemplate
{
    private const int MostCharacters = 1 << 20;

    private readonly ImmutableArray<JinjaStatement> _body;

    private JinjaTemplate(ImmutableArray<JinjaStatement> body) => _body = body;

    /// <exception cref="JinjaException">
    /// The template is not valid, or uses something that is not supported. The message has the line.
    /// </exception>
    public static JinjaTemplate Parse(string source) => source.Length <= MostCharacters ? new(JinjaParser.Parse(source))
        : throw new JinjaException($"the template has more than {MostCharacters} characters");

    /// <summary>Returns the text of the template with these variables.</summary>
    /// <param name="variables">The variables, whose values are those of <see cref="JinjaValues"/>.</param>
    /// <param name="now">What <c>strftime_now</c> formats.</param>
    /// <param name="input">How many characters the variables have. The bound of the work grows with it.</param>
    /// <exception cref="JinjaException">
    /// The template refuses the variables (<c>raise_exception</c>), cannot be rendered with them, or needs too much work.
    /// </exception>
    public string Render(IEnumerable<KeyValuePair<string, object?>> variables, DateTime now, long input = 0) =>
        new JinjaRenderer(now, input).Render(_body, variables);
}
