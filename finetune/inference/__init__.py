"""What is done with a run once it is over: its model predicts, is scored on later data, published and exported."""
