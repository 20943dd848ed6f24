"""The work of the commands that train and measure networks. It needs torch, so it is imported when it is called."""
