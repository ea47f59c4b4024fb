using MatFormer;

return await ModelProgram.RunAsync<ApiSearch>(args);
