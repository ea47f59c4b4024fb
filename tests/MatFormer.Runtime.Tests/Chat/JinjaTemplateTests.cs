namespace MatFormer.Runtime.Tests.Chat;

/// <summary>Tests what templates are refused.</summary>
public sealed class JinjaTemplateTests
{
    public static TheoryData<string, string> Hostile => new()
    {
        { "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "nests too deeply" },
        { "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}", "the template" },
        { "{% set ns = namespace(t='ab') %}{% for i in range(99) %}{% set ns.t = ns.t + ns.t %}{% endfor %}", "the template" },
        { "{% set ns = namespace(t='ab') %}{% for i in range(99) %}{% set ns.t = ns.t ~ ns.t %}{% endfor %}", "the template" },
        { "{% set ns = namespace(t='a,') %}{% for i in range(99) %}{% set ns.t = ns.t|replace('a', 'aa') %}{% endfor %}", "the template" },
        { "{% set ns = namespace(l=[1]) %}{% for i in range(99) %}{% set ns.l = ns.l + ns.l %}{% endfor %}", "the template" },
        { "{% set ns = namespace(l=['x']) %}{% for i in range(99) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l }}", "the template" },
        { "{% set ns = namespace(l=[]) %}{% for i in range(9999) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l }}", "nests too deeply" },
        {
            "{% set ns = namespace(l=[]) %}{% for i in range(9999) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l|tojson }}",
            "nests too deeply"
        },
        { "{% set a = 'a' * 9000000 %}{{ (a + 'b') in a }}", "the template" },
        { "{{ 'a' * 99999999999 }}", "the template" },
        { "{{ [0] * 99999999999 }}", "the template" },
        { "{{ ['a' * 4000000] * 1000 }}", "the template" },
        { "{% for i in range(99999) %}{{ 'a' * 1000 }}{% endfor %}", "the template" },
        { "{{ range(0, 9999999999) }}", "range has more than" },
        { "{{ " + new string('(', 5000) + "1" + new string(')', 5000) + " }}", "nested more than" },
        { "{{ " + new string('[', 5000) + new string(']', 5000) + " }}", "nested more than" },
        { "{{ " + string.Concat(Enumerable.Repeat("- ", 5000)) + "1 }}", "nested more than" },
        { "{% set " + new string('(', 5000) + "a" + new string(')', 5000) + " = 1 %}", "nested more than" },
        { string.Concat(Enumerable.Repeat("{% if true %}", 5000)), "nested more than" },
        { "{{ 1" + string.Concat(Enumerable.Repeat(" + 1", 20000)) + " }}", "nests too deeply" },
        { "{{ x" + string.Concat(Enumerable.Repeat("|string", 20000)) + " }}", "nests too deeply" },
        { new string('x', 2_000_000), "characters" },
    };

    [Theory]
    [InlineData("a\n{{ x|wordwrap(3) }}", "line 2: the filter 'wordwrap' is not supported")]
    [InlineData("{{ x is escaped }}", "line 1: the test 'escaped' is not supported")]
    [InlineData("{{ lipsum() }}", "line 1: the function 'lipsum' is not supported")]
    [InlineData("{{ x.encode() }}", "line 1: the method 'encode' is not supported")]
    [InlineData("{{ loop.changed(1) }}", "line 1: the method 'changed' is not supported")]
    [InlineData("{{ loop.nothing }}", "line 1: 'loop.nothing' is not supported")]
    [InlineData("{{ x|tojson(default=1) }}", "line 1: the argument 'default' of the filter 'tojson' is not supported")]
    [InlineData("{{ x|replace('a') }}", "line 1: the filter 'replace' lacks the argument 'new'")]
    [InlineData("{{ x.get() }}", "line 1: the method 'get' lacks the argument 'key'")]
    [InlineData("{{ x|map('nosuch') }}", "line 1: the filter 'map' names a filter that is not supported")]
    [InlineData("{{ x|select(y) }}", "line 1: the filter 'select' names a test that is not supported")]
    [InlineData("{{ x|selectattr('a', 'nosuch') }}", "line 1: the test 'nosuch' is not supported")]
    [InlineData("\n\n{% include 'x' %}", "line 3: the tag 'include' is not supported")]
    [InlineData("{% raw %}{{ ' }}{% endraw %}", "line 1: the tag 'raw' is not supported")]
    [InlineData("{% call m() %}{% endcall %}", "line 1: the tag 'call' is not supported")]
    [InlineData("{% for a in b recursive %}{% endfor %}", "line 1: 'recursive' loops are not supported")]
    [InlineData("{% macro m() %}{{ varargs }}{% endmacro %}", "line 1: the variable 'varargs' is not supported")]
    [InlineData("{{ range(*x) }}", "line 1: '*' before an argument is not supported")]
    [InlineData("{{ 2 ** 3 }}", "line 1: the operator '**' is not supported")]
    [InlineData("{{ x[0](1) }}", "line 1: a call of something other than a function or a method is not supported")]
    [InlineData("{{ 0x1F }}", "line 1: the number that begins with '0' is not a decimal number")]
    [InlineData("{% if x %}\n{% for y in x %}\n{% endfor %}\n", "line 1: the tag 'if' has no end ('endif')")]
    [InlineData("{% break %}", "line 1: the tag 'break' stands outside a loop")]
    [InlineData("{% if x %}{% endfor %}", "line 1: the tag 'endfor' ends nothing here")]
    [InlineData("{{ x + }}", "line 1: expected an expression, but found '}}'")]
    public void WhatIsNotSupportedIsRefusedByItsNameWhenATemplateIsRead(string source, string problem) =>
        Assert.Equal(problem, Assert.Throws<JinjaException>(() => JinjaTemplate.Parse(source)).Message);

    [Theory]
    [MemberData(nameof(Hostile))]
    public void TemplatesThatNeedTooMuchAreRefused(string source, string problem)
    {
        var before = GC.GetAllocatedBytesForCurrentThread();
        var e = Assert.Throws<JinjaException>(() => JinjaTemplate.Parse(source).Render([], DateTime.UnixEpoch));
        Assert.Contains(problem, e.Message, StringComparison.Ordinal);
        Assert.True(GC.GetAllocatedBytesForCurrentThread() - before < 1L << 30);
    }

    [Fact]
    public void TemplatesThatNeedTooMuchAreRefusedOnASmallStack()
    {
        Exception? thrown = null;
        var thread = new Thread(
            () => thrown = Record.Exception(
                () => JinjaTemplate.Parse("{% macro f() %}{{ ((f())) }}{% endmacro %}{{ f() }}").Render([], DateTime.UnixEpoch)),
            256 << 10);
        thread.Start();
        thread.Join();
        Assert.Contains("nests too deeply", Assert.IsType<JinjaException>(thrown).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void ErrorsHaveTheLineOfTheTemplate()
    {
        var template = JinjaTemplate.Parse("a\n{% if true %}\n  {{ x.y }}\n{% endif %}");
        var e = Assert.Throws<JinjaException>(() => template.Render([], DateTime.UnixEpoch));
        Assert.Equal("line 3: 'x' is undefined", e.Message);
    }
}
