"""Parts of the commands that train: options, configuration, run directories, the ending."""
