//! Threads that each serve connections of their own. A connection never leaves its thread, nor does what serves it: no answer waits for
//! another thread to wake, and memory is given back where it was taken.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// One thread for each processor, which serve connections and a `T` with each. What still runs when this is dropped is cut off.
pub struct Lanes<T>(Vec<Lane<T>>);

struct Lane<T> {
    // Holds no more than there may be connections, which the caller limits.
    sender: UnboundedSender<Handed<T>>,
    load: Arc<AtomicUsize>,
}

/// A connection on its way to its lane.
type Handed<T> = (std::net::TcpStream, T, Load);

/// Counts a connection of a lane as long as it lives.
struct Load(Arc<AtomicUsize>);

impl Load {
    fn on(load: &Arc<AtomicUsize>) -> Self {
        load.fetch_add(1, Relaxed);
        Self(load.clone())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl<T: Send + 'static> Lanes<T> {
    /// Starts the threads; each connection is given to `serve`.
    pub fn start<F>(serve: impl Fn(TcpStream, T) -> F + Clone + Send + 'static) -> std::io::Result<Self>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let count = std::thread::available_parallelism().map_or(1, usize::from);
        let lane = |index| {
            let (sender, receiver) = unbounded_channel();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let serve = serve.clone();
            std::thread::Builder::new().name(format!("lane-{index}")).spawn(move || {
                runtime.block_on(run(receiver, serve));
                runtime.shutdown_background();
            })?;
            Ok(Lane { sender, load: Arc::default() })
        };
        (0..count).map(lane).collect::<std::io::Result<_>>().map(Self)
    }

    /// Has the lane of the fewest connections serve this one.
    pub fn serve(&self, stream: TcpStream, with: T) -> std::io::Result<()> {
        let stream = stream.into_std()?;
        let lane = self.0.iter().min_by_key(|lane| lane.load.load(Relaxed));
        let sent = lane.map(|lane| lane.sender.send((stream, with, Load::on(&lane.load))));
        match sent {
            Some(Ok(())) => Ok(()),
            _ => Err(std::io::ErrorKind::BrokenPipe.into()),
        }
    }
}

async fn run<T, F>(mut receiver: UnboundedReceiver<Handed<T>>, serve: impl Fn(TcpStream, T) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    while let Some((stream, with, load)) = receiver.recv().await {
        // A connection that breaks is the client's affair.
        let Ok(stream) = TcpStream::from_std(stream) else { continue };
        let connection = serve(stream, with);
        tokio::spawn(async move {
            connection.await;
            drop(load);
        });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// Connections are spread evenly, each is served by one thread, and none outlives the lanes.
    #[tokio::test]
    async fn connections_stay_on_their_lanes_and_end_with_them() {
        let lanes = Lanes::start(|mut stream, mark: u8| async move {
            let name = std::thread::current().name().unwrap_or_default().to_owned();
            stream.write_all(&[mark, name.len() as u8]).await.unwrap();
            stream.write_all(name.as_bytes()).await.unwrap();
            // Until it is cut off.
            std::future::pending::<()>().await;
        })
        .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let (mut clients, mut served) = (Vec::new(), BTreeMap::new());
        for mark in 0..3 * threads {
            let mut client = TcpStream::connect(address).await.unwrap();
            lanes.serve(listener.accept().await.unwrap().0, mark as u8).unwrap();
            let mut head = [0; 2];
            client.read_exact(&mut head).await.unwrap();
            assert_eq!(usize::from(head[0]), mark);
            let mut name = vec![0; usize::from(head[1])];
            client.read_exact(&mut name).await.unwrap();
            *served.entry(name).or_insert(0) += 1;
            clients.push(client);
        }
        assert_eq!(served.into_values().collect::<Vec<_>>(), vec![3; threads]);
        drop(lanes);
        for mut client in clients {
            assert!(matches!(client.read(&mut [0]).await, Ok(0) | Err(_)));
        }
    }
}
