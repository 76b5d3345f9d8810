"""The paper's losses as pure functions of tensors. This folder imports only torch and itself."""
