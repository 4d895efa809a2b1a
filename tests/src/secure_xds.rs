//! mTLS between Envoys and xds-server, as the bootstraps have it: authorities for both sides, and folders with what each
//! Envoy shows and believes.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::{
    gateway::replace,
    render,
    stack::{Stack, read, write},
    tls::Authority,
};

/// The name in xds-server's certificate.
const SERVER: &str = "xds.internal";

/// Both authorities, and the folder of xds-server's own files.
#[derive(Debug)]
pub struct SecureXds {
    servers: Authority,
    clients: Authority,
    folder: PathBuf,
}

impl SecureXds {
    /// Makes `stack` speak mTLS, with Envoys that show a certificate for `identity`.
    pub fn set_up(stack: &mut Stack, identity: &str) -> Result<Self> {
        let folder = stack.folder.join("xds-tls");
        fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
        let secure =
            Self { servers: Authority::new("servers")?, clients: Authority::new("clients")?, folder };
        secure.replace_server()?;
        write(&secure.folder.join("clients.pem"), secure.clients.pem())?;
        for (flag, file) in [
            ("--grpc-certificate", "port.pem"),
            ("--grpc-key", "port.key"),
            ("--grpc-client-ca", "clients.pem"),
        ] {
            let file = secure.folder.join(file).to_string_lossy().into_owned();
            stack.xds_arguments.extend([flag.to_owned(), file]);
        }
        let proxy = secure.folder_for(stack, "proxy", identity)?;
        stack.xds_tls = Some(proxy);
        Ok(secure)
    }

    /// A folder as Envoys need it, beside the others.
    pub fn folder_for(&self, stack: &Stack, name: &str, identity: &str) -> Result<PathBuf> {
        let folder = self.folder.join(name);
        fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
        write(&folder.join("ca.pem"), self.servers.pem())?;
        for file in ["proxy.yaml", "authority.yaml"] {
            let original = read(&stack.toolbox.envoy_config("xds-tls").join(file))?;
            write(&folder.join(file), &render::secured(&original, &folder)?)?;
        }
        self.replace_proxy(&folder, identity)?;
        Ok(folder)
    }

    /// A new certificate for xds-server, in two files, one after the other.
    pub fn replace_server(&self) -> Result<()> {
        let issued = self.servers.issue(&[SERVER])?;
        replace(&self.folder.join("port.pem"), &issued.chain)?;
        replace(&self.folder.join("port.key"), &issued.key)
    }

    /// A new certificate for the Envoys of a folder.
    pub fn replace_proxy(&self, folder: &Path, identity: &str) -> Result<()> {
        let issued = self.clients.issue(&[identity])?;
        replace(&folder.join("proxy.pem"), &issued.chain)?;
        replace(&folder.join("proxy.key"), &issued.key)
    }
}
