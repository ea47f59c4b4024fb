using MatFormer;

// Without arguments: train for half a minute, measure every size, and write a report.
return await ModelProgram.RunAsync<TextLm>(args is [] ? ["demo", "--minutes", "0.5"] : args);
