using System.Collections.Immutable;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.Diagnostics;
using Microsoft.CodeAnalysis.Operations;

namespace MatFormer.Generators.Analyzers;

/// <summary>Finds views that a program trains, with a backward pass or an optimizer. The weights of a view have no gradients.</summary>
[DiagnosticAnalyzer(LanguageNames.CSharp)]
public sealed class TrainedViewAnalyzer : DiagnosticAnalyzer
{
    /// <inheritdoc/>
    public override ImmutableArray<DiagnosticDescriptor> SupportedDiagnostics { get; } = [MisuseDescriptors.ViewTrained];

    /// <inheritdoc/>
    public override void Initialize(AnalysisContext context)
    {
        context.EnableConcurrentExecution();
        context.ConfigureGeneratedCodeAnalysis(GeneratedCodeAnalysisFlags.None);
        context.RegisterOperationAction(Analyze, OperationKind.Invocation);
    }

    private static void Analyze(OperationAnalysisContext context)
    {
        var call = (IInvocationOperation)context.Operation;
        var trained = call.TargetMethod.Name switch
        {
            // Computing only the loss is an evaluation, which is allowed.
            "backward" when Origin(call.Receiver()) is IInvocationOperation { TargetMethod.Name: "Loss" } loss => loss,
            "parameters" or "named_parameters" when IsForOptimizer(call) => call,
            _ => null,
        };
        if (trained is null || Origin(trained.Receiver()) is not IInvocationOperation { TargetMethod.Name: "View" } view) return;
        if (!Operations.IsModel(view.Receiver()?.Type)) return;
        var model = view.Receiver().Variable()?.Name ?? view.Receiver()!.Type!.Name;
        context.ReportDiagnostic(Diagnostic.Create(MisuseDescriptors.ViewTrained, trained.Syntax.GetLocation(), model));
    }

    private static bool IsForOptimizer(IOperation operation)
    {
        for (var outer = operation.Parent; outer is not (null or IBlockOperation); outer = outer.Parent)
        {
            if (outer is IInvocationOperation or IObjectCreationOperation && Operations.IsOptimizer(outer.Type)) return true;
        }

        return false;
    }

    // Returns the expression itself, or the only value of the variable that it names.
    private static IOperation? Origin(IOperation? operation)
    {
        if (operation is not ILocalReferenceOperation { Local: var local }) return operation;
        if (Operations.IsAssigned(local, operation.Root())) return null;
        return operation.Root().Descendants().OfType<IVariableDeclaratorOperation>()
            .FirstOrDefault(declarator => SymbolEqualityComparer.Default.Equals(declarator.Symbol, local))
            ?.GetVariableInitializer()?.Value.Bare();
    }
}
