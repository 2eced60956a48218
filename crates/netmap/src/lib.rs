//! The tailnet as we understand it: validated domain types, and the merge of full and delta map responses.
